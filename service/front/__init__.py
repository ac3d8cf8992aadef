"""Several processes for HTTP in front of one engine: ``EXITRAMP_HTTP_WORKERS``.

* The **supervisor** owns the listening sockets and starts, links, watches and ends the others.
* The **engine process** owns the device and everything that has state. It runs the whole application on a
  Unix socket, and an ``Intake`` for each front.
* The **fronts** read HTTP. Single images for ``POST /classify`` they decode into memory shared with the
  engine and ask for over a ``Link``, a pair of sockets that carries a few hundred bytes per image (``wire``).
  Everything else they pass on to the application as it is (``proxy``).

Memory and sockets of a link belong to one front and one engine. When either dies so does the link, and
nothing of it is ever used again: what the living one still holds or reads stays its own.
"""
