"""Real servers for tests and development, on loopback, without Docker.

    python scripts/services up [NAME...]    start them and print their addresses
    python scripts/services down            end exactly those
    python scripts/services fetch           get what is missing, and start nothing

The servers are `postgresql`, `rabbitmq`, `nats`, `kafka`, `sqs` (ElasticMQ, a stand-in), and, only
where it is named, `temporal`, whose first build takes minutes. One whose address is in the
environment (`SWITCHGEAR_TEST_KAFKA=kafka://host:9092` and so on; for Temporal also
`TEMPORAL_ADDRESS=host:port`) is used as it is.
"""

from services.process import ServerError
from services.programs import Missing
from services.servers import SERVERS, Server, make
from services.shared import Shared, address_of, sweep, variable

__all__ = [
    "SERVERS",
    "Missing",
    "Server",
    "ServerError",
    "Shared",
    "address_of",
    "make",
    "sweep",
    "variable",
]
