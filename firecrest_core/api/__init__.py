"""The client of the FirecREST v2 API.

``client`` has the client and its systems. ``compute`` and ``filesystem`` have the endpoints of a system on top of
``endpoints``, and ``models`` and ``submit_request`` what they exchange. Below them, ``requests`` and ``http`` send the
requests, ``auth`` provides tokens, ``backoff`` retries, and ``error_mapping`` turns failures into errors.
"""
