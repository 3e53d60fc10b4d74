# Arrays with labels and a test split of one's own: probes of the codes, against pixels and PCA.
python - <<'PY'
import numpy as np
from sklearn.datasets import load_digits

x, y = load_digits(return_X_y=True)
x = (x.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
np.savez("mine.npz", x_train=x[:1400], y_train=y[:1400], x_test=x[1400:], y_test=y[1400:])
PY
aejax train dae --data mine.npz --steps 300 --run runs/mine | tee out
grep -q "logistic" out
test -f runs/mine/report.html
grep -q "Linear probe" runs/mine/report.html
