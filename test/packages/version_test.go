package packages

import (
	"os/exec"
	"testing"
)

// What git describe says becomes versions that both formats take, and that sort as they came.
func TestVersion(t *testing.T) {
	names := []struct{ described, date, want string }{
		{"no-version-at-all", "", "0~dev"},
		{"1234567", "20260101000000", "0~git20260101000000.1234567"},
		{"0000000-dirty", "20260102000000", "0~git20260102000000.0000000.dirty"},
		{"v2.1.0-beta.2", "", "2.1.0~beta.2"},
		{"v2.1.0-rc1", "", "2.1.0~rc1"},
		{"v2.1.0-rc1-3-g1234567", "", "2.1.0~rc1+3.g1234567"},
		{"v2.1.0-rc10", "", "2.1.0~rc10"},
		{"v2.1.0", "", "2.1.0"},
		{"v2.1.0-9-g1234567", "", "2.1.0+9.g1234567"},
		{"v2.1.0-9-g1234567-dirty", "", "2.1.0+9.g1234567.dirty"},
		{"v2.1.0-10-g0234567", "", "2.1.0+10.g0234567"},
		{"2.1.1", "", "2.1.1"},
		{"v2.10.0", "", "2.10.0"},
	}
	need(t, "dpkg", "rpm")
	for i, n := range names {
		if got := shell(t, source+`/packaging/version.sh "$@"`, n.described, n.date); got != n.want {
			t.Errorf("%s becomes %s, want %s", n.described, got, n.want)
		}
		if i == 0 {
			continue
		}
		before := names[i-1].want
		if out, err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", before, "lt", n.want).CombinedOutput(); err != nil {
			t.Errorf("dpkg does not hold %s to be older than %s: %v %s", before, n.want, err, out)
		}
		if got := shell(t, `rpm --eval "%{lua: print(rpm.vercmp('$1', '$2'))}"`, before, n.want); got != "-1" {
			t.Errorf("rpm compares %s with %s: %s, want -1", before, n.want, got)
		}
	}
}
