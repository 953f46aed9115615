"""/similarities: maps of which patches an encoder finds alike"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, JSONResponse

from server.access import Caller, Permission
from server.api.schemas import DEFAULT_LIMIT, After, Limit, MapOut, MapsOut, ModelMapsOut, Page, SimilarityOut
from server.dependencies import OnceDep, SessionDep, SettingsDep, allow
from server.services import common, similarities
from server.services.similarities import SimilarityBody
from server.store.models import Similarity

router = APIRouter(prefix="/similarities", tags=["similarities"])
Share = Annotated[float, Query(ge=0, le=1)]
SEE = [allow(Permission.SIMILARITY_READ)]


@router.post("", status_code=202, response_model=SimilarityOut)
def create_similarity(
    body: SimilarityBody,  # type: ignore[valid-type] # made from the stage's spec
    session: SessionDep,
    settings: SettingsDep,
    once: OnceDep,
    caller: Caller = allow(Permission.SIMILARITY_CREATE),
) -> JSONResponse:
    """Queue the patch vectors of images by every model, and pictures around the points given."""

    def create() -> SimilarityOut:
        row = similarities.create(session, caller, settings, body)
        return SimilarityOut.of(row, common.latest_job(session, "similarity", row.id))

    return once(body, create, 202)


@router.get("", dependencies=SEE)
def list_similarities(
    session: SessionDep, state: str | None = None, after: After = None, limit: Limit = DEFAULT_LIMIT
) -> Page[SimilarityOut]:
    return Page[SimilarityOut].of(common.page(session, Similarity, after, limit, state=state), SimilarityOut.of)


@router.get("/{similarity_id}", dependencies=SEE)
def get_similarity(similarity_id: str, session: SessionDep) -> SimilarityOut:
    return SimilarityOut.of(
        common.get(session, Similarity, similarity_id), common.latest_job(session, "similarity", similarity_id)
    )


@router.get("/{similarity_id}/maps", dependencies=SEE)
def get_maps(similarity_id: str, image: int, x: Share, y: Share, session: SessionDep, settings: SettingsDep) -> MapsOut:
    """Cosines of every patch with the one that holds a point, for every model and depth; at once, no job is queued."""
    _, root, result = similarities.opened(session, settings, similarity_id)
    models = []
    for model in similarities.at_point(root, result, image, x, y):
        depths = [
            MapOut(
                block=one.block,
                blocks=one.blocks,
                patch=one.patch,
                median=round(float(np.median(one.values)), 4),
                values=[[round(v, 4) for v in row] for row in one.values.tolist()],
            )
            for one in model.maps
        ]
        models.append(ModelMapsOut(model=model.model, seen=model.seen, depths=depths))
    return MapsOut(image=image, x=x, y=y, models=models)


@router.get("/{similarity_id}/images/{image}.png", dependencies=SEE, response_class=FileResponse)
def get_image(similarity_id: str, image: int, session: SessionDep, settings: SettingsDep) -> FileResponse:
    """The de-identified image as the cohort stores it."""
    _, root, result = similarities.opened(session, settings, similarity_id)
    return FileResponse(root / similarities.image_of(result, image)["file"], media_type="image/png")


@router.get("/{similarity_id}/images/{image}/panels/{panel}.png", dependencies=SEE, response_class=FileResponse)
def get_panel(similarity_id: str, image: int, panel: int, session: SessionDep, settings: SettingsDep) -> FileResponse:
    """A picture that the job drew: the image, the patch and the maps of every model."""
    _, root, result = similarities.opened(session, settings, similarity_id)
    return FileResponse(root / similarities.panel_of(result, image, panel), media_type="image/png")
