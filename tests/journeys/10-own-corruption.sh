# An experiment of one's own, from a copy of one that comes with aejax.
aejax new dae mine.py
python - <<'PY'
text = open("mine.py").read()
text = text.replace("def experiment(", '''def upside_down(key, x, step=None):
    """Turns half of the images."""
    import jax
    import jax.numpy as jnp

    turned = jax.random.bernoulli(key)
    return jnp.where(turned, x[::-1], x), jnp.broadcast_to(turned, x.shape)


def experiment(''', 1)
text = text.replace("corrupt=masking(rate)", "corrupt=upside_down")
open("mine.py", "w").write(text)
PY
aejax train mine.py --help | grep -q -- "--latent"
aejax train mine.py --steps 100 --run runs/mine
aejax verify runs/mine | grep -q "same digest"
echo "# a change" >> mine.py
aejax evaluate runs/mine 2> message || true
grep -q "has changed since" message
