# A transformer in a pipeline, chosen by a grid search.
python - <<'PY'
import warnings

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from aejax.sklearn import Autoencoder

warnings.simplefilter("ignore")
x, y = load_digits(return_X_y=True)
pipeline = make_pipeline(MinMaxScaler(), Autoencoder(steps=100, random_state=0), LogisticRegression(max_iter=500))
search = GridSearchCV(pipeline, {"autoencoder__latent": [2, 16]}, cv=2).fit(x[:600], y[:600])
assert search.best_params_ == {"autoencoder__latent": 16}
assert search.score(x[600:], y[600:]) > 0.6
PY
