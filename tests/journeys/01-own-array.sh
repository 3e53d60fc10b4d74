# An array in memory: a model in one call, codes, and the examples that the model finds strangest.
python - <<'PY'
import numpy as np
import aejax
from aejax.models import autoencoder
from aejax.nets import MLP
from aejax.objective import gaussian

rng = np.random.default_rng(0)
X = (rng.normal(size=(300, 2)) @ rng.normal(size=(2, 12)) + 0.05 * rng.normal(size=(300, 12))).astype(np.float32)
X[7] += 5 * rng.normal(size=12)

model = autoencoder(MLP((32,), 2), MLP((32,), 12), gaussian())
run = aejax.train(aejax.fit(model, X, lr=1e-2, steps=400), "runs/array")
codes = run.encode(X)
assert codes.shape == (300, 2)
assert 7 in np.argsort(run.score(X))[-5:]
assert run.reconstruct(X).shape == X.shape
assert np.allclose(run.decode(codes), run.reconstruct(X), atol=1e-4)
PY
aejax encode runs/array other.npy codes.npy 2> message || true
grep -q "there is no file or folder other.npy" message
