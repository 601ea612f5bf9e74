"""Machine learning for shops: validated data in, trustworthy versioned artefacts out."""

import os

__version__ = "0.1.0"

# Read by OpenMP when XGBoost or implicit first load it. Threads that wait for each other otherwise
# do so at full speed, and two steps on the same cores take each other's time
# (docs/decisions/0027-threads-that-wait.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
