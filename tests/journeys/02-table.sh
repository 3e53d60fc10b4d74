# A table with missing cells: what is in it, a denoising autoencoder, the completed table.
python - <<'PY'
import numpy as np
import pandas as pd

rng = np.random.default_rng(0)
z = rng.normal(size=(200, 2))
frame = pd.DataFrame({"height": 170 + 8 * z[:, 0], "weight": 70 + 9 * z[:, 0] + 2 * z[:, 1], "age": 40 + 10 * z[:, 1]})
frame["waist"] = 0.5 * frame["weight"] + 50
frame.to_csv("truth.csv", index=False)
frame.mask(rng.random(frame.shape) < 0.1).to_csv("people.csv", index=False)
PY
aejax data inspect people.csv 2> message || true
grep -q -- "--missing mask" message
aejax data inspect people.csv --missing mask | tee out
grep -q waist out
aejax train tabular --data people.csv --missing mask --standardize zscore --steps 400 --run runs/people
aejax impute runs/people people.csv complete.csv
aejax encode runs/people people.csv codes.csv
python - <<'PY'
import pandas as pd

truth, given, complete = (pd.read_csv(f"{name}.csv") for name in ("truth", "people", "complete"))
assert list(complete.columns) == ["height", "weight", "age", "waist"]
assert not complete.isna().any().any()
hidden = given.isna()
error = ((complete - truth) ** 2)[hidden].sum().sum()
assert error < ((given.fillna(given.mean()) - truth) ** 2)[hidden].sum().sum(), "no better than the mean"
PY
