"""AWS on this machine: moto's server, the resource types that it lacks, and a runner that starts tasks as processes."""
