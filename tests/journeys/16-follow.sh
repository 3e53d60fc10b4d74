# What a run does while it trains, in the terminal, in a tracker, and from a script.
aejax train ae --steps 40 --log-every 10 --save-every 20 --track tensorboard --evaluate quick --run runs/followed 2> messages
grep -q "validation" messages
ls runs/followed/tensorboard | grep -q tfevents
python -c "
import aejax
steps, loss = aejax.open_run('runs/followed').history['train']['loss']
assert list(steps) == [10, 20, 30, 40]"
aejax train ae --steps 4 --batch-size 5000 --evaluate none --run runs/large 2> messages
grep -q "batch" messages
