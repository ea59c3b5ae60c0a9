module ocicrypt-kms/bench/go-exec

go 1.22
