"""Sites: hospitals or campuses. Making one makes its derivation secret, from which every pseudonym follows."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from pipelines.keys import DerivationSecret
from server.access import Caller
from server.audit import Action, record
from server.errors import Conflict
from server.services import policies
from server.settings import Settings
from server.store.models import Site, new_id


def create(
    session: Session, caller: Caller, settings: Settings, *, name: str, issuer: str = "", policy: str | None = None
) -> Site:
    """A new site with a secret of its own; `issuer` is the issuer of patient IDs that name none."""
    if session.scalar(select(Site.id).where(Site.name == name)):
        raise Conflict("There is a site of this name already; take another name.")
    policy = policies.check(policy or policies.DEFAULT, settings)
    site = Site(id=new_id(), name=name, issuer=issuer, policy=policy, epoch=1, created_by=caller.user_id)
    session.add(site)
    session.flush()
    DerivationSecret.create(settings.derivation_secret(site.id, site.epoch), site.id, site.epoch)
    record(session, caller, Action.SITE_CREATE, f"site:{site.id}", name=name)
    return site


def begin_epoch(session: Session, caller: Caller, settings: Settings, site: Site, reason: str) -> None:
    """A new derivation secret for a site; the old ones stay, for exports that were made with them."""
    session.refresh(site, with_for_update=True)
    site.epoch += 1
    path = settings.derivation_secret(site.id, site.epoch)
    if not path.exists():  # left by one that was cut off before the commit: nothing was made with it
        DerivationSecret.create(path, site.id, site.epoch)
    record(session, caller, Action.SITE_EPOCH, f"site:{site.id}", epoch=site.epoch, reason=reason)
