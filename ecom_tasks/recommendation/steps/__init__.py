"""The tasks of `tasks.py:flow`, a file a stage, in its order.

inputs -> proposals, newcomers, together -> ranking -> scores -> listing -> release; `reading` finds
what an earlier task stored. These files alone read and write storage, and frames go to the files
beside this folder. Light to import, since the scheduler reads them: heavy libraries load inside.
"""
