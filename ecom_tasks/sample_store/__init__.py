"""A simulated shop whose truth is known: elasticities, tastes, seasons, shocks, lead times.

`world` draws what never changes, `weeks` lets it live week by week, `panel` and `tables` write what
a shop would have recorded, and beside it the truth that a shop never sees.
"""
