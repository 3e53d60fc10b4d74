# Images to integer codes and back, with a prior learned on top, which takes the data of its parent.
python -c "
import numpy as np
rng = np.random.default_rng(0)
np.savez('shapes.npz', x_train=rng.integers(0, 256, (120, 8, 8, 1), np.uint8), x_test=rng.integers(0, 256, (40, 8, 8, 1), np.uint8))"
aejax train vqvae --data shapes.npz --codes 16 --steps 40 --evaluate quick --run runs/vq
aejax encode runs/vq shapes.npz codes.npy --codes
python -c "
import numpy as np
codes = np.load('codes.npy')
assert codes.dtype.kind == 'i' and codes.max() < 16"
aejax sample runs/vq x.npy 2> message || true
grep -q vq_prior message
aejax train vq_prior --parent runs/vq --channels 8 --layers 1 --steps 10 --evaluate quick --run runs/prior
aejax sample runs/prior samples --n 4
test "$(ls samples | wc -l)" = 4
