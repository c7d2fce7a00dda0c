"""The settings that stand. A reload puts others in their place, and the pass that does so can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from killswitch.domain.settings import ConfirmPolicy, RetryPolicy, Settings, Site
    from killswitch.domain.undo import Undo


class Standing:
    """Whoever needs a setting asks here each time: what is kept elsewhere would outlive a reload."""

    def __init__(self, settings: Settings, undo: Undo) -> None:
        self._undo = undo
        self._take(settings)

    def put(self, settings: Settings) -> None:
        """From now on these stand."""
        before = self.settings
        self._undo.note(lambda: self._take(before))
        self._take(settings)

    def _take(self, settings: Settings) -> None:
        self.settings = settings
        self.sites: dict[str, Site] = {site.name: site for site in settings.sites}

    @property
    def confirm(self) -> ConfirmPolicy:
        return self.settings.confirm

    @property
    def retry(self) -> RetryPolicy:
        return self.settings.retry
