from aejax.cli import main

raise SystemExit(main())
