# A run that is killed continues to the bits that it would have had, and is then trained for longer.
aejax train dae --steps 600 --save-every 100 --evaluate none --run runs/whole
aejax train dae --steps 600 --save-every 100 --evaluate none --run runs/cut & pid=$!
for i in $(seq 600); do grep -q '"step": 200' runs/cut/metrics.jsonl 2> /dev/null && break; sleep 0.1; done
kill -KILL $pid; wait $pid || true
aejax resume runs/cut --evaluate none
python -c "
import json
a, b = (json.load(open(f'runs/{name}/result.json'))['digest'] for name in ('whole', 'cut'))
assert a == b"
aejax resume runs/cut --steps 800 --evaluate none
aejax verify runs/cut | grep -q "same digest after 800 steps"
