"""convclinic trains convolutional image classifiers the way the best practitioners do, and says why.

    import convclinic as cc
    run = cc.fit("photos/", budget="10m")
    run.predict(["a.jpg"])

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convclinic.ground.errors import ConvclinicError as ConvclinicError
    from convclinic.job.crossvalidating import crossval as crossval
    from convclinic.job.ensembling import ensemble as ensemble
    from convclinic.job.fitting import fit as fit
    from convclinic.job.fitting import plan as plan
    from convclinic.job.fitting import resume as resume
    from convclinic.job.run import Run as Run
    from convclinic.job.search_found import Searched as Searched
    from convclinic.job.searching import search as search
    from convclinic.job.studying import Evidence as Evidence
    from convclinic.job.studying import evidence as evidence

__version__ = "0.1.0"

_WHERE = {
    "crossval": "convclinic.job.crossvalidating",
    "ensemble": "convclinic.job.ensembling",
    "Evidence": "convclinic.job.studying",
    "evidence": "convclinic.job.studying",
    "fit": "convclinic.job.fitting",
    "plan": "convclinic.job.fitting",
    "resume": "convclinic.job.fitting",
    "Run": "convclinic.job.run",
    "Searched": "convclinic.job.search_found",
    "search": "convclinic.job.searching",
    "ConvclinicError": "convclinic.ground.errors",
}
__all__ = [
    "ConvclinicError",
    "Evidence",
    "Run",
    "Searched",
    "crossval",
    "ensemble",
    "evidence",
    "fit",
    "plan",
    "resume",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'convclinic' has no attribute '{name}'")
