"""Jobs: the database decides, Celery rings the bell."""
