# A run as a folder for others, and back.
aejax train dae --steps 50 --evaluate quick --run runs/shared
aejax export runs/shared folder
test -f folder/weights.safetensors
grep -q "aejax import folder" folder/README.md
aejax import folder elsewhere
aejax encode runs/shared digits:test a.npy
aejax encode elsewhere digits:test b.npy
cmp a.npy b.npy
