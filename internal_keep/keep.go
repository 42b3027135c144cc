package internal_keep

import (
	_ "github.com/anacrolix/torrent"
	_ "github.com/danielgtaylor/huma/v2"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/hashicorp/go-memdb"
	_ "github.com/hashicorp/memberlist"
	_ "github.com/hashicorp/raft"
	_ "github.com/hashicorp/raft-boltdb/v2"
	_ "github.com/insomniacslk/dhcp/dhcpv4/server4"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/pin/tftp/v3"
	_ "github.com/spf13/cobra"
	_ "github.com/vishvananda/netlink"
	_ "github.com/jedib0t/go-pretty/v6/table"
	_ "github.com/pkg/xattr"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/time/rate"
	_ "gopkg.in/yaml.v3"
	_ "pgregory.net/rapid"
)
