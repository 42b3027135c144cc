package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	tftpFirst = 250 * time.Millisecond // iPXE's first wait for an answer, which it doubles
	tftpLast  = 10 * time.Second       // a wait that long is the last
	tftpBlock = 512                    // bytes, where nothing else was agreed
)

// readTFTP reads a tftp:// URL as iPXE does: it asks again after a while, and who
// answers first is the server, also where another one, or all, were asked.
func (n *Node) readTFTP(ctx context.Context, address string, to io.Writer) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	asked, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	var conn *net.UDPConn
	err = n.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", nil)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var server netip.AddrPort // the zero one until somebody answers
	last := []byte("\x00\x01" + strings.TrimPrefix(u.Path, "/") + "\x00octet\x00")
	for block, wait := uint16(1), tftpFirst; ; {
		dest := server
		if !dest.IsValid() {
			dest = netip.AddrPortFrom(asked, 69)
		}
		if _, err := conn.WriteToUDPAddrPort(last, dest); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		data, from, err := awaitBlock(conn, server, block, wait)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && wait < tftpLast:
			wait *= 2
			continue
		case err != nil:
			return fmt.Errorf("%s: block %d: %w", address, block, because(ctx, err))
		}
		if _, err := to.Write(data); err != nil {
			return err
		}
		server, wait = from, tftpFirst
		last = binary.BigEndian.AppendUint16([]byte{0, 4}, block)
		block++
		if len(data) < tftpBlock {
			_, err := conn.WriteToUDPAddrPort(last, server)
			return err
		}
	}
}

// awaitBlock waits for a block from the server, or from anybody if there is none yet.
func awaitBlock(conn *net.UDPConn, server netip.AddrPort, block uint16, patience time.Duration) (data []byte, from netip.AddrPort, err error) {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, from, err
	}
	buffer := make([]byte, 2*tftpBlock)
	for {
		k, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return nil, from, err
		}
		if server.IsValid() && from != server || k < 4 {
			continue
		}
		switch opcode, number := buffer[1], binary.BigEndian.Uint16(buffer[2:]); {
		case opcode == 3 && number == block:
			return buffer[4:k], from, nil
		case opcode == 5:
			return nil, from, fmt.Errorf("refused: %q", buffer[4:k])
		}
	}
}
