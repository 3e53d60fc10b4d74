from io import StringIO

from rich.console import Console

from aejax.training.progress import _bar, _on_terminal, show_progress


def test_plain_lines_where_there_is_no_terminal(capsys):
    with show_progress("run", 100, 0) as progress:
        progress.advance(10, 1.5, 2000.0)
        progress.validated(50, {"nll": 1.25})
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "step 50  validation  nll 1.25\n"  # the first plain line comes only after some seconds


def test_a_bar_on_a_terminal():
    screen = StringIO()
    with _bar(Console(file=screen, force_terminal=True, width=120)) as bar:
        progress = _on_terminal(bar, "run", 100, 20)
        progress.advance(60, 1.5, 2000.0)
        progress.validated(60, {"nll": 1.25})
    text = screen.getvalue()
    for part in ("run", "60/100", "loss 1.5", "2,000 examples/s", "step 60  validation  nll 1.25"):
        assert part in text


def test_a_long_part_of_an_evaluation_says_how_long_it_will_take(monkeypatch):
    from aejax.data import load
    from aejax.evaluation import evaluator
    from aejax.runs.batched import map_examples, watched

    said, clock = [], iter(range(0, 1000, 4))
    monkeypatch.setattr(evaluator.time, "monotonic", lambda: next(clock))
    (test,) = load("digits", ("test",))
    with watched(evaluator._time_left("evaluating", said.append)):
        map_examples(
            lambda batch: batch["x"], test._replace(size=300, arrays={k: v[:300] for k, v in test.arrays.items()})
        )
    assert said == []  # after four seconds, and then at the end
    clock = iter(range(0, 1000, 8))
    with watched(evaluator._time_left("evaluating", said.append)):
        map_examples(lambda batch: batch["x"], test)
    assert said == ["evaluating: 256 of 359 examples after 8 s, about 11 s in all"]
    map_examples(lambda batch: batch["x"], test)
    assert len(said) == 1  # nobody watches
