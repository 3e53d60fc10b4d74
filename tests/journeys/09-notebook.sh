# A run made in a notebook, with early stopping and curves; then evaluated, reported and encoded from the command line.
python - <<'PY'
import numpy as np
import aejax
from aejax.models import vae
from aejax.nets import MLP
from aejax.objective import bernoulli
from aejax.training.callbacks import early_stopping

X = np.random.default_rng(0).random((120, 8, 8, 1)).astype(np.float32)
np.save("x.npy", X)
model = vae(MLP((32,), 2 * 2), MLP((32,), (8, 8, 1)), bernoulli(), latent=2, shape=(8, 8, 1))
run = aejax.train(aejax.fit(model, X, steps=300), "runs/nb", aejax.Settings(save_every=20), callbacks=[early_stopping(3, "nelbo")])
aejax.plot(run).savefig("curve.png")
assert set(run.history) == {"train", "validation"}
numbers = aejax.evaluate(run, draws=20, verbose=False)
aejax.report(run)
PY
aejax evaluate runs/nb --data x.npy --quick
aejax encode runs/nb x.npy codes.npy
aejax report runs/nb --data x.npy
aejax verify runs/nb --data x.npy | grep -q "same digest"
