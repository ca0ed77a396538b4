"""The web application: `gunicorn 'service.app:create_app()'`."""

from __future__ import annotations

from pathlib import Path

import flask
from flask_migrate import Migrate
from werkzeug.middleware.proxy_fix import ProxyFix

from service import db, heartbeat, logs, settings, throttle, web
from service.delivery import models as delivery_models
from service.issues import models as issue_models
from service.subscribers import models as subscriber_models

# Metadata knows a table once its module is imported.
MODELS = (subscriber_models, issue_models, delivery_models, throttle, heartbeat)
MIGRATIONS = db.MIGRATIONS


def create_app() -> flask.Flask:
    # `vinkje up` has its mailbox, and commands only leave work behind; gunicorn serves visitors who wait for a mail.
    chosen = settings.current_or_exit(*settings.NEEDED if settings.in_gunicorn() else ())
    logs.configure(chosen.log_level)
    app = flask.Flask("service", root_path=str(Path(__file__).parent / "web"))
    app.config["SECRET_KEY"] = chosen.secret_key
    app.config["MAX_CONTENT_LENGTH"] = 512 * 1024
    if chosen.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=chosen.trusted_proxies, x_proto=1)  # type: ignore[method-assign]
    db.connect(app)
    Migrate(app, db.db, directory=MIGRATIONS, render_as_batch=True)
    web.register(app)
    return app
