"""Machine learning for shops: validated data in, trustworthy versioned artefacts out."""

import os

__version__ = "0.1.0"

# Read when XGBoost's OpenMP and NumPy's OpenBLAS are loaded. Threads that wait for each other
# otherwise do so at full speed, and steps on the same cores take each other's time
# (docs/decisions/0026-threads-that-wait.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
