"""Numbers of keyboard keys in the sets that libvirt's `virKeycodeSet` names.

Source of the numbers: linux/input-event-codes.h, the scan codes of linux/drivers/input/keyboard/atkbd.c, the USB HID
usage tables, Carbon's HIToolbox/Events.h and winuser.h, as collected in the keycodemapdb project's keymaps.csv.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from schema.enums.domain_input import KeycodeSet

# one key a line, hexadecimal: linux, atset1, atset2, atset3, osx, usb, win32; "-" where a set lacks the key
_COLUMNS: Final = (
    KeycodeSet.LINUX,
    KeycodeSet.ATSET1,
    KeycodeSet.ATSET2,
    KeycodeSet.ATSET3,
    KeycodeSet.OSX,
    KeycodeSet.USB,
    KeycodeSet.WIN32,
)
_KEYS: Final = """
1 1 76 8 35 29 1b
2 2 16 16 12 1e 31
3 3 1e 1e 13 1f 32
4 4 26 26 14 20 33
5 5 25 25 15 21 34
6 6 2e 2e 17 22 35
7 7 36 36 16 23 36
8 8 3d 3d 1a 24 37
9 9 3e 3e 1c 25 38
a a 46 46 19 26 39
b b 45 45 1d 27 30
c c 4e 4e 1b 2d bd
d d 55 55 18 2e bb
e e 66 66 33 2a 8
f f d d 30 2b 9
10 10 15 15 c 14 51
11 11 1d 1d d 1a 57
12 12 24 24 e 8 45
13 13 2d 2d f 15 52
14 14 2c 2c 11 17 54
15 15 35 35 10 1c 59
16 16 3c 3c 20 18 55
17 17 43 43 22 c 49
18 18 44 44 1f 12 4f
19 19 4d 4d 23 13 50
1a 1a 54 54 21 2f db
1b 1b 5b 5b 1e 30 dd
1c 1c 5a 5a 24 28 d
1d 1d 14 11 3b e0 11
1e 1e 1c 1c 0 4 41
1f 1f 1b 1b 1 16 53
20 20 23 23 2 7 44
21 21 2b 2b 3 9 46
22 22 34 34 5 a 47
23 23 33 33 4 b 48
24 24 3b 3b 26 d 4a
25 25 42 42 28 e 4b
26 26 4b 4b 25 f 4c
27 27 4c 4c 29 33 ba
28 28 52 52 27 34 de
29 29 e e 32 35 c0
2a 2a 12 12 38 e1 a0
2b 2b 5d 5c 2a 32 dc
2c 2c 1a 1a 6 1d 5a
2d 2d 22 22 7 1b 58
2e 2e 21 21 8 6 43
2f 2f 2a 2a 9 19 56
30 30 32 32 b 5 42
31 31 31 31 2d 11 4e
32 32 3a 3a 2e 10 4d
33 33 41 41 2b 36 bc
34 34 49 49 2f 37 be
35 35 4a 4a 2c 38 bf
36 36 59 59 3c e5 a1
37 37 7c 7e 43 55 6a
38 38 11 19 3a e2 12
39 39 29 29 31 2c 20
3a 3a 58 14 39 39 14
3b 3b 5 7 7a 3a 70
3c 3c 6 f 78 3b 71
3d 3d 4 17 63 3c 72
3e 3e c 1f 76 3d 73
3f 3f 3 27 60 3e 74
40 40 b 2f 61 3f 75
41 41 83 37 62 40 76
42 42 a 3f 64 41 77
43 43 1 47 65 42 78
44 44 9 4f 6d 43 79
45 45 77 76 47 53 90
46 46 7e 5f - 47 91
47 47 6c 6c 59 5f 67
48 48 75 75 5b 60 68
49 49 7d 7d 5c 61 69
4a 4a 7b 4e 4e 56 6d
4b 4b 6b 6b 56 5c 64
4c 4c 73 73 57 5d 65
4d 4d 74 74 58 5e 66
4e 4e 79 7c 45 57 6b
4f 4f 69 69 53 59 61
50 50 72 72 54 5a 62
51 51 7a 7a 55 5b 63
52 52 70 70 52 62 60
53 53 71 71 41 63 6e
54 54 - - - - -
55 76 5f - - 94 -
56 56 61 13 a 64 e2
57 57 78 56 67 44 7a
58 58 7 5e 6f 45 7b
59 73 51 - 5e 87 e2
5a 78 63 - - 92 15
5b 77 62 87 - 93 -
5c 79 64 86 - 8a 1c
5d 70 13 87 - 88 f2
5e 7b 67 85 - 8b 1d
5f 5c 27 - 5f 8c -
60 e01c e05a 79 4c 58 -
61 e01d e014 58 3e e4 a3
62 e035 e04a 4a 4b 54 6f
63 54 7f 57 - 46 2c
64 e038 e011 39 3d e6 a5
65 5b - - - - -
66 e047 e06c 6e 73 4a 24
67 e048 e075 63 7e 52 26
68 e049 e07d 6f 74 4b 21
69 e04b e06b 61 7b 50 25
6a e04d e074 6a 7c 4f 27
6b e04f e069 65 77 4d 23
6c e050 e072 60 7d 51 28
6d e051 e07a 6d 79 4e 22
6e e052 e070 67 - 49 2d
6f e053 e071 64 75 4c 2e
70 e06f e06f 8e - - -
71 e020 e023 9c 4a ef ad
72 e02e e021 9d 49 ee ae
73 e030 e032 95 48 ed af
74 e05e e037 - - 66 -
75 59 f - 51 67 -
76 e04e e079 - - - -
77 e046 e077 62 - 48 13
78 e00b - - - - -
79 7e 6d - - 85 6c
7a f2 f2 - 68 90 16
7b f1 f1 - 66 91 1a
7c 7d 6a 5d 5d 89 dc
7d e05b e01f 8b 37 e3 5b
7e e05c e027 8c 36 e7 5c
7f e05d e02f 8d 6e 65 5d
80 e068 e028 a - f3 a9
81 e005 - b - 79 -
82 e006 - c - - -
83 e007 - 10 - 7a -
84 e00c - - - 77 -
85 e078 - 18 - 7c -
86 64 - 20 - 74 -
87 65 - 28 - 7d -
88 e041 - 30 - f4 -
89 e03c - 38 - 7b -
8a e075 - 9 72 75 2f
8b e01e - 91 - 76 -
8c e021 e02b a3 - fb -
8d 66 - - - - -
8e e05f e03f - - f8 5f
8f e063 e05e - - - -
90 67 - - - - -
91 68 - - - - -
92 69 - - - - -
93 e013 - a2 - - -
94 e01f - a0 - - -
95 e017 - a1 - - -
96 e002 - - - f0 -
97 6a - - - - -
98 e012 - 96 - f9 -
99 6b - - - - -
9a e026 - 9b - - -
9b e06c e048 - - - -
9c e066 e018 - - - -
9d e06b e040 - - - -
9e e06a e038 - - f1 a6
9f e069 e030 - - f2 a7
a0 e023 - 9a - - -
a1 6c - - - ec -
a2 e07d - - - - -
a3 e019 e04d 93 - eb b0
a4 e022 e034 - - e8 b3
a5 e010 e015 94 - ea b1
a6 e024 e03b 98 - e9 b2
a7 e031 - 9e - - -
a8 e018 - 9f - - -
a9 63 - - - - -
ab e001 - - - - -
ac e032 e03a 97 - - ac
ad e067 e020 - - fa a8
b0 e008 - - - f7 -
b1 75 - - - f5 -
b2 e00f - - - f6 -
b3 e076 - - - b6 -
b4 e07b - - - b7 -
b5 e009 - - - - -
b6 e00a - - - - -
b7 5d 2f 7f 69 68 7c
b8 5e 37 80 6b 69 7d
b9 5f 3f 81 71 6a 7e
ba 55 - 82 6a 6b 7f
bb e003 - 83 40 6c 80
bc e077 - - 4f 6d 81
bd e004 - - 50 6e 82
be 5a - - 5a 6f 83
bf 74 - - - 70 84
c0 e079 - - - 71 85
c1 6d - - - 72 86
c2 6f - - - 73 87
c3 e015 - - - - -
c4 e016 - - - - -
c5 e01a - - - - -
c6 e01b - - - - -
c7 e027 - - - - -
c8 e028 - - - - -
c9 e029 - - - - -
ca e02b - - - - -
cb e02c - - - - -
cc e02d - - - - -
cd e025 - - - - -
ce e02f - - - - -
cf e033 - - - - fa
d0 e034 - - - - -
d1 e036 - - - - -
d2 e039 - - - - 2a
d3 e03a - - - - -
d4 e03b - - - - -
d5 e03d - - - - -
d6 e03e - - - - -
d7 e03f - - - - b4
d8 e040 - - - - -
d9 e065 e010 - - - aa
da e042 - - - - -
db e043 - - - - -
dc e044 - - - - -
dd e045 - - - - -
de e014 - - - - -
df e04a - - - - -
e0 e04c - - - - -
e1 e054 - - - - -
e2 e06d e050 - - - -
e3 e056 - - - - -
e4 e057 - - - - -
e5 e058 - - - - -
e6 e059 - - - - -
e7 e05a - - - - -
e8 e064 - - - - -
e9 e00e - - - - -
ea e055 - - - - -
eb e070 - - - - -
ec e071 - - - - -
ed e072 - - - - -
ee e073 - - - - -
ef e074 - - - - -
ff - e012 - - - -
100 - - - - - 1
101 - - - - - 2
102 - - - - - 4
103 - - - - - 5
104 - - - - - 6
161 - - - - - 29
16c - - - - - ab
174 - - - - - fb
1d0 - - - 3f - -
"""
_LATER: Final = 0xE000  # what the first keyboards lacked has this before its number in set 1
_HANGEUL_HANJA: Final = (0xF1, 0xF2)  # two keys of set 1 with the highest bit


@cache
def _numbers(codeset: KeycodeSet) -> dict[int, int]:
    """QEMU's numbers by those of a set; the key with the lowest number in Linux counts."""
    found: dict[int, int] = {}
    for line in _KEYS.split("\n")[1:-1]:
        words = line.split()
        scan = words[1]
        if scan == "-":
            continue
        if codeset in (KeycodeSet.XT, KeycodeSet.XT_KBD):
            own = scan if codeset == KeycodeSet.XT else f"{_linux_raw(int(scan, 16)):x}"
        else:
            own = words[_COLUMNS.index(codeset)]
        if own != "-":
            found.setdefault(int(own, 16), _qnum(int(scan, 16)))
    return found


def _linux_raw(scan: int) -> int:
    return scan if scan < _LATER else scan & 0x7F | 0x100


def _qnum(scan: int) -> int:
    return scan & 0x7F if scan in _HANGEUL_HANJA else scan & 0x7F | 0x80 if scan >= _LATER else scan


def find_qnum(codeset: KeycodeSet, code: int) -> int | None:
    """The number QEMU (and RFB) gives a key, 1 to 255, by its number in another set; None for a key that it lacks."""
    if codeset == KeycodeSet.QNUM:
        return code
    return _numbers(codeset).get(code)
