package agent

import (
	"testing"

	"github.com/clustervision/luna/boot/dhcp"
)

func TestDuty(t *testing.T) {
	for name, tt := range map[string]struct {
		standing
		want dhcp.Duty
	}{
		"the holder":                          {standing{holds: true, holderLives: true, current: true}, dhcp.Everyone},
		"another head":                        {standing{holderLives: true, current: true}, dhcp.Silent},
		"another head, which has just died":   {standing{current: true}, dhcp.Silent},
		"back from the dead, once the holder": {standing{holds: true, holderLives: true}, dhcp.Silent},
		"the holder, cut off":                 {standing{holds: true, holderLives: true, cutOff: true}, dhcp.KnownNodes},
		"cut off from the holder too":         {standing{cutOff: true}, dhcp.KnownNodes},
		"cut off, but not from the holder":    {standing{cutOff: true, holderLives: true}, dhcp.Silent},
	} {
		if got := tt.duty(); got != tt.want {
			t.Errorf("%s: duty %d, want %d", name, got, tt.want)
		}
	}
}
