// Package usage reads what this process has cost so far, as the kernel accounts it.
package usage

import "syscall"

// Usage is processor time in seconds and peak resident memory in KiB, both since the process began.
type Usage struct {
	User      float64 `json:"user"`
	System    float64 `json:"system"`
	MaxRSSKiB int64   `json:"max_rss_kib"`
}

// Now returns the usage of all threads of this process.
func Now() Usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // only a wrong first argument can cause it
	}
	return Usage{User: seconds(r.Utime), System: seconds(r.Stime), MaxRSSKiB: int64(r.Maxrss)}
}

// CPUSince is the processor time in seconds, user and system together, spent between start and u.
func (u Usage) CPUSince(start Usage) float64 {
	return u.User + u.System - start.User - start.System
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
