"""A request that needs more decoded pixels than allowed is refused before decoding."""

from __future__ import annotations

from tests.support import pictures
from tests.support.serve_process import assert_log_clean, fetch, run_server


def test_a_request_that_needs_too_many_decoded_pixels_is_413_and_smaller_requests_are_answered(
    tmp_path,
):
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures.jpeg(folder / "sample.jpg", 1200, 900)
    limits = {"ORCHESTRATOR_IIIF__MAX_DECODE_PIXELS": "500000"}
    with run_server(folder, data=tmp_path / "data", env=limits) as server:
        server.wait_converted()
        base = f"{server.public}/iiif/3/1%2F1%2Fsample"
        refused = fetch(f"{base}/full/max/0/default.png")
        assert refused.status == 413
        assert "smaller" in refused.json["error"]
        assert server.metric("renders_total") == 0
        assert fetch(f"{base}/0,0,512,512/512,/0/default.png").status == 200
        assert fetch(f"{base}/full/max/0/default.jpg").status == 413
        assert fetch(f"{base}/full/400,/0/default.jpg").status == 200
        assert_log_clean(server.log())
