"""The tests for somebody else's SMP host, which updates simulated boards.

``pytest --pyargs pytest_nrfdfu.host_conformance --nrfdfu-target-command "HOST {port} {image}"``. What is filled in:
{port} (a pty, a ``socket://`` address, or the serial port of this computer), of a TCP port {host} and {tcp_port},
{baudrate}, {image} (a signed .bin), {python} (this interpreter). With ``--nrfdfu-target-uart PORT`` and no command,
somebody starts the host by hand, and is told when.

Each check starts a simulated board in recovery, lets the host update it, and looks at every packet; at the end a table
says what the host does right and wrong.
"""
