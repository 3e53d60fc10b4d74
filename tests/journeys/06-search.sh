# Searches: values of anything, a ranking, and Optuna, interrupted and continued.
aejax train ae --steps 30 --sweep hidden=16,32x16 lr=1e-2,1e-3 --seeds 2 --evaluate none --run runs/grid | tee out
grep -q "^1. " out
grep -q "runs/grid/hidden" out
aejax sweep ae --steps 30 --trials 3 --space lr=1e-4..1e-1:log latent=2..16 --evaluate quick --run runs/search | tee out
grep -q "on the validation split, lowest first" out
aejax resume runs/search --trials 4 --evaluate none
test -d runs/search/trial0003
aejax train ae --sweep width=3,4 2> message || true
grep -q "no argument width" message
