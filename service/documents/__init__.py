"""What ``/openapi.json`` says beyond what FastAPI sees by itself: headers, errors, bodies, examples."""
