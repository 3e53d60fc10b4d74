# A warm start on other data, with another learning rate, stopped where it no longer improves.
aejax train ae --data digits --steps 100 --hidden 16 --latent 4 --evaluate none --run runs/first
python -c "
import numpy as np
np.save('mine.npy', np.random.default_rng(0).random((200, 8, 8, 1), np.float32))"
aejax train ae --data mine.npy --start-from runs/first --lr 1e-4 --hidden 16 --latent 4 --steps 2000 --save-every 50 --patience 2 --run runs/tuned --evaluate quick
grep -q '"started_from": {' runs/tuned/config.json
