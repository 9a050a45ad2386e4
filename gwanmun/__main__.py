"""`python -m gwanmun` is `gwanmun`."""

import sys

from gwanmun.cli import main

sys.exit(main())
