"""Settings of the dashboard: who signs in, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from appliance.settings.section import Section


class Dashboard(Section):
    """Access to the dashboard; users are made by ``tandem users add``."""

    login: Literal["beyond", "always"] = "beyond"
    """Rule for signing in: "beyond", where other machines reach the dashboard; "always", also where
    it listens on this machine alone."""
    idle_minutes: Annotated[float, Field(gt=0, le=24 * 60)] = 30.0
    """Time without a click, key or tile after which a session ends. Refreshes do not count."""
    longest_hours: Annotated[float, Field(gt=0, le=24 * 7)] = 12.0
    """Longest life of a session: a long shift."""
    mask: Literal["by-hand", "viewers", "always"] = "by-hand"
    """Screens that hide accessions, names of patients and files, and free text, for a wall that
    passers-by see: "by-hand", where somebody hides them in that browser; "viewers", also where a
    viewer is signed in; "always", all screens. Nothing can be done on a screen that hides them."""
    open_metrics: bool = True
    """Whether ``/metrics`` answers without a session. The figures hold no patient data, and a
    Prometheus server cannot sign in."""
