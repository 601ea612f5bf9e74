"""Write the secrets of the containers once: docker/.env, readable by its owner only.

Run with any Python from 3.11 on; needs no packages beyond the standard library.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

from ecom_tasks.services.credentials import Credentials  # noqa: E402
from ecom_tasks.services.object_store import identities  # noqa: E402
from ecom_tasks.services.state import write_private  # noqa: E402


def main() -> int:
    if (FOLDER / ".env").exists():
        sys.stderr.write(f"{FOLDER / '.env'} is there already: kept\n")
        return 0
    made = Credentials()
    database = f"postgresql+psycopg://airflow:{made.database_password}@postgres/airflow"
    variables = {
        "POSTGRES_PASSWORD": made.database_password,
        "REDIS_PASSWORD": made.broker_password,
        "AIRFLOW_DATABASE": database,
        "AIRFLOW_RESULTS": f"db+{database}",
        "AIRFLOW_BROKER": f"redis://:{made.broker_password}@redis:6379/0",
        "PSEUDONYM_KEY": made.pseudonym_key,
        "AIRFLOW_PASSWORD": made.airflow_password,
        "AIRFLOW_FERNET_KEY": made.airflow_fernet,
        "AIRFLOW_SESSION_KEY": made.airflow_session,
        "AIRFLOW_JWT_SECRET": made.airflow_jwt,
        "STORE_SIGNING": made.store_signing,
        "STORE_SIGNING_READ": made.store_signing_read,
        "STORE_FILER_SIGNING": made.store_filer_signing,
        "STORE_FILER_SIGNING_READ": made.store_filer_signing_read,
        "STORE_IDENTITIES": f"'{json.dumps(identities(made))}'",
        "PUBLISHER_KEY": made.publisher_key,
        "PUBLISHER_SECRET": made.publisher_secret,
        "CONSUMER_KEY": made.consumer_key,
        "CONSUMER_SECRET": made.consumer_secret,
    }
    lines = [f"{name}={value}" for name, value in variables.items()]
    write_private(FOLDER / ".env", "\n".join(lines) + "\n")
    sys.stderr.write(f"Written: {FOLDER / '.env'}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
