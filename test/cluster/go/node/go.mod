module meridian.dev/test/cluster/node

go 1.24.0
