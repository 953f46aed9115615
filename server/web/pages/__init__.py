"""One file per screen. Each route declares its permission, as the routes of the API do."""

from server.web.pages import (
    admin,
    champions,
    cohorts,
    evaluations,
    exports,
    home,
    jobs,
    labels,
    models,
    review,
    runs,
    signin,
    similarities,
    studies,
)

routers = [
    m.router
    for m in (
        signin,
        home,
        exports,
        review,
        labels,
        cohorts,
        runs,
        models,
        champions,
        evaluations,
        similarities,
        studies,
        jobs,
        admin,
    )
]
