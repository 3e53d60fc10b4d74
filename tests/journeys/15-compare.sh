# Two models side by side, a third later, and a model that learned nothing.
aejax train dae --steps 60 --latent 2 --evaluate quick --run runs/a
aejax train dae --steps 60 --latent 16 --evaluate quick --run runs/b
aejax train ae --steps 1 --lr 1e-9 --evaluate quick --run runs/c | tee out
grep -q "not better than the mean training example" out
aejax report runs/a runs/b | grep -q "^comparison.html"
aejax report runs/a runs/c | grep -q "^comparison-2.html"
aejax report runs/a runs/b | grep -q "^comparison.html"
grep -q "latent" comparison.html
