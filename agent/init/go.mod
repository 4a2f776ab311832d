module meridian.db/agent/init

go 1.22
