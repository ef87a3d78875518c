"""Documentation that Shardmart's modules share."""


class ModuleDocFragment:
    """`shardmart.keyfile`, `shardmart.login` and `shardmart.wait`, as ansible-doc reads them."""

    KEYFILE = r"""
options:
  keyfile:
    description: File with the cluster's keyfile where the module runs; connects as C(__system).
    type: path
  tls:
    description: How to speak TLS; plain TCP when it is not given.
    type: dict
    suboptions:
      ca_file:
        description: File with the certificate authority to trust.
        type: path
        required: true
      certificate_key_file:
        description: File with this client's certificate and key.
        type: path
requirements: [pymongo]
"""

    LOGIN = r"""
options:
  login_user:
    description: The user to connect as, of the C(admin) database.
    type: str
    default: admin
  login_password_file:
    description: File with that user's password where the module runs. Without it the connection is anonymous.
    type: path
  tls:
    description: How to speak TLS; plain TCP when it is not given.
    type: dict
    suboptions:
      ca_file:
        description: File with the certificate authority to trust.
        type: path
        required: true
      certificate_key_file:
        description: File with this client's certificate and key.
        type: path
requirements: [pymongo]
"""

    WAIT = r"""
options:
  wait_seconds:
    description: How long to wait in all, in seconds. The failure says what was awaited.
    type: float
    default: 60
"""
