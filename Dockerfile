# One image for web, workers and beat; docker-compose.yml says which command each runs.
FROM python:3.12-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# Not root, and without a home that could hold a secret.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin vinkje
# DATA_DIR, as seen from the folder we start in: a volume that is mounted there belongs to that user.
RUN mkdir --mode=0700 /tmp/data && chown vinkje:vinkje /tmp/data
WORKDIR /srv/vinkje

# First what seldom changes: every package at its locked version, checked against its hash.
COPY requirements/run.lock requirements/run.lock
RUN pip install --require-hashes --no-deps -r requirements/run.lock

COPY pyproject.toml README.md ./
COPY service service
COPY worker worker
COPY templates templates
RUN pip install --no-build-isolation --no-deps --no-index .

# Elsewhere than the sources: what runs is what was installed.
WORKDIR /tmp
USER vinkje
EXPOSE 8000
# No access log: an address in it may hold a reader's token. The application logs each request by its rule.
CMD ["gunicorn", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "4", "--worker-tmp-dir", "/dev/shm", "service.app:create_app()"]
