"""Every task of the system as a command, free of any orchestrator."""

from ecom_tasks.cli import main

raise SystemExit(main())
