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
