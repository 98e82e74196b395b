"""``python -m kasa_corda.evaluate model=... [adapter=DIR] task=a,b,c``: score a model that exists already.

The function ``kasa_corda.evaluate`` scores a model in memory; this file is only the command of that name.
"""

import sys

from kasa_corda.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
