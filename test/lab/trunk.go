package lab

import (
	"context"
	"fmt"
)

// Trunk is a cable between two networks, which together are one as long as it is plugged in.
type Trunk struct {
	lab  *Lab
	port string // its end at the first network
}

// Trunk connects two networks. Networks and trunks must not make a ring.
func (l *Lab) Trunk(ctx context.Context, one, other string) (*Trunk, error) {
	var bridges [2]string
	for i, network := range []string{one, other} {
		var err error
		if bridges[i], err = l.network(ctx, network); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	l.trunks++
	k := &Trunk{lab: l, port: fmt.Sprintf("trunk%d.0", l.trunks)}
	far := fmt.Sprintf("trunk%d.1", l.trunks)
	l.mu.Unlock()
	err := ip(ctx, l.bridges(),
		fmt.Sprintf("link add %s type veth peer name %s", k.port, far),
		fmt.Sprintf("link set %s master %s up", k.port, bridges[0]),
		fmt.Sprintf("link set %s master %s up", far, bridges[1]))
	if err != nil {
		return nil, fmt.Errorf("lab: connect %s and %s: %w", one, other, err)
	}
	return k, nil
}

// Cut pulls the cable: each network goes on by itself, and hosts see nothing of it but that the
// others are silent.
func (k *Trunk) Cut(ctx context.Context) error {
	return ip(ctx, k.lab.bridges(), "link set "+k.port+" down")
}

// Heal plugs it in again.
func (k *Trunk) Heal(ctx context.Context) error {
	return ip(ctx, k.lab.bridges(), "link set "+k.port+" up")
}
