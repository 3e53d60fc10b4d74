# Signals [n, t, c]: refused with the shape that is needed, then trained, and heard.
python - <<'PY'
import numpy as np

t = np.linspace(0, 1, 64, dtype=np.float32)
rng = np.random.default_rng(0)
X = 0.8 * np.sin(2 * np.pi * (rng.uniform(2, 6, (80, 1)) * t + rng.random((80, 1)))).astype(np.float32)
np.save("flat.npy", X)
np.save("signals.npy", X[:, :, None])
PY
aejax train conv_vae --data flat.npy 2> message || true
grep -q "signals of one channel as \[n, t, 1\]" message
aejax train conv_vae --data signals.npy --hidden 8 16 --latent 4 --steps 30 --batch-size 16 --run runs/signals
aejax reconstruct runs/signals signals.npy heard --sample-rate 8000
test -f heard/00.wav
