# Photos of several sizes in class folders: codes as a table with their names, reconstructions and samples as pictures.
python - <<'PY'
from pathlib import Path
import numpy as np
from PIL import Image

rng = np.random.default_rng(0)
for name in ("cats", "dogs"):
    Path("photos", name).mkdir(parents=True)
    for i in range(15):
        size = (int(rng.integers(20, 40)), int(rng.integers(20, 40)), 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(f"photos/{name}/{i}.png")
PY
aejax train conv_vae --data photos 2> message || true
grep -q "image-size" message
aejax train conv_vae --data photos --image-size 16 --hidden 8 --latent 4 --steps 20 --batch-size 8 --run runs/photos
aejax encode runs/photos photos codes.csv
head -1 codes.csv | grep -q file
grep -q "cats/0.png" codes.csv
aejax reconstruct runs/photos photos restored
test -f restored/cats-0.png
aejax sample runs/photos samples --n 4
test "$(ls samples | wc -l)" = 4
aejax encode runs/photos photos/cats/3.png one.csv
