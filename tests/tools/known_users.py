"""What the tests of users share: /etc/passwd and /etc/group with oddities, and those of Alpine; who is who by them.

The cases of gosu's tests and of those of Docker's parser are among them, written anew.
"""

from run.services.users import User

MOST = 2**31 - 1
MANY = b"many:x:1000:" + b",".join(b"user%d" % number for number in range(7500)) + b"\n"

PASSWD = b"""
root:x:0:0:root:/root:/bin/sh
# a comment
#hidden:x:77:77::/hidden:
daemon:x:1:2:daemon:/sbin:/sbin/nologin
games:x:5:60:games:/usr/games:/bin/sh
app:x:42:43::/srv/app:
111:x:222:333::/never
strange:x:111:112::/home/strange:::::
2147483647:x:0:0::/never
2147483648:x:0:0::/never
-42:x:12:13::/never
user7456:x:7456:100::/home/user7456
short:x:300:301
homeless:x:301:302:::
toolarge:x:2147483648:1::/never
root:x:9:9::/second
twin:x:42:9::/second
+::::::
no colons here
:x:66:66::/nameless:
a:b
last:x:500:501::/home/last"""

GROUP = (
    b"""
root:x:0:root
daemon:x:2:
app:x:43:
shared:x:1234:root,app,user7456
444:x:555:111
strange:x:444:
2147483648:x:1236:app
toolarge:x:2147483648:app
users:x:100:games
games:x:60:
broken
app:x:4343:
"""
    + MANY
)

KNOWN = [
    ("root", User(0, 0, (0, 1234), b"/root", b"root")),
    ("0", User(0, 0, (0, 1234), b"/root", b"root")),
    ("00", User(0, 0, (0, 1234), b"/root", b"root")),
    ("0:0", User(0, 0, (0,), b"/root", b"root")),
    ("0:root", User(0, 0, (0,), b"/root", b"root")),
    ("root:0", User(0, 0, (0,), b"/root", b"root")),
    ("root:root", User(0, 0, (0,), b"/root", b"root")),
    ("app", User(42, 43, (43, 1234, 1236), b"/srv/app", b"app")),
    ("42", User(42, 43, (43, 1234, 1236), b"/srv/app", b"app")),
    ("root:app", User(0, 43, (43,), b"/root", b"root")),
    ("app:1234", User(42, 1234, (1234,), b"/srv/app", b"app")),
    ("42:1234", User(42, 1234, (1234,), b"/srv/app", b"app")),
    ("0:1000", User(0, 1000, (1000,), b"/root", b"root")),
    ("root:1000", User(0, 1000, (1000,), b"/root", b"root")),
    ("1000:1000", User(1000, 1000, (1000,), b"/", b"1000")),
    ("1337", User(1337, 0, (0,), b"/", b"1337")),
    ("1337:1234", User(1337, 1234, (1234,), b"/", b"1337")),
    ("1337:root", User(1337, 0, (0,), b"/", b"1337")),
    ("1337:daemon", User(1337, 2, (2,), b"/", b"1337")),
    ("games", User(5, 60, (60, 100), b"/usr/games", b"games")),
    ("games:daemon", User(5, 2, (2,), b"/usr/games", b"games")),
    ("111", User(111, 112, (112,), b"/home/strange", b"strange")),
    ("111:444", User(111, 444, (444,), b"/home/strange", b"strange")),
    ("7456", User(7456, 100, (100, 1234, 1000), b"/home/user7456", b"user7456")),
    (f"7456:{MOST}", User(7456, MOST, (MOST,), b"/home/user7456", b"user7456")),
    (f"{MOST}:43", User(MOST, 43, (43,), b"/", b"2147483647")),
    (f"{MOST}", User(MOST, 0, (0,), b"/", b"2147483647")),
    ("short", User(300, 301, (301,), b"/", b"short")),
    ("homeless", User(301, 302, (302,), b"/", b"homeless")),
    ("last", User(500, 501, (501,), b"/home/last", b"last")),
    ("app:many", User(42, 1000, (1000,), b"/srv/app", b"app")),
]
"""Who a user is by these two files."""

UNKNOWN = [
    *("nobody", "nobody:nogroup", "root:nogroup", "nobody:app", "8888:nogroup", "nobody:8888"),
    *("-1:0", "0:-3", "-5:-2", "-42", "-43", "toolarge", "0:toolarge", "hidden", "#hidden", "+"),
    *("42:2147483648", "2147483648:43", "2147483648", "9223372036854775807", "9223372036854775808"),
    *("0:9223372036854775808", "9" * 5000, "0day", "0:0day", "root:root:root", "Root", "ro ot", "\uff11"),
    *("7456:9223372036854775807", "9223372036854775807:43", "bogus", "0:bogus"),
]
"""Those that are nobody."""

EMPTY_PART = [":", "root:", ":root", ":0", "0:"]

ALPINE_PASSWD = b"""root:x:0:0:root:/root:/bin/sh
bin:x:1:1:bin:/bin:/sbin/nologin
daemon:x:2:2:daemon:/sbin:/sbin/nologin
lp:x:4:7:lp:/var/spool/lpd:/sbin/nologin
sync:x:5:0:sync:/sbin:/bin/sync
shutdown:x:6:0:shutdown:/sbin:/sbin/shutdown
halt:x:7:0:halt:/sbin:/sbin/halt
mail:x:8:12:mail:/var/mail:/sbin/nologin
news:x:9:13:news:/usr/lib/news:/sbin/nologin
uucp:x:10:14:uucp:/var/spool/uucppublic:/sbin/nologin
cron:x:16:16:cron:/var/spool/cron:/sbin/nologin
ftp:x:21:21::/var/lib/ftp:/sbin/nologin
sshd:x:22:22:sshd:/dev/null:/sbin/nologin
games:x:35:35:games:/usr/games:/sbin/nologin
ntp:x:123:123:NTP:/var/empty:/sbin/nologin
guest:x:405:100:guest:/dev/null:/sbin/nologin
nobody:x:65534:65534:nobody:/:/sbin/nologin
"""
"""What Alpine 3.22 has."""

ALPINE_GROUP = b"""root:x:0:root
bin:x:1:root,bin,daemon
daemon:x:2:root,bin,daemon
sys:x:3:root,bin
adm:x:4:root,daemon
tty:x:5:
disk:x:6:root
lp:x:7:lp
kmem:x:9:
wheel:x:10:root
floppy:x:11:root
mail:x:12:mail
news:x:13:news
uucp:x:14:uucp
cron:x:16:cron
audio:x:18:
cdrom:x:19:
dialout:x:20:root
ftp:x:21:
sshd:x:22:
input:x:23:
tape:x:26:root
video:x:27:root
netdev:x:28:
kvm:x:34:kvm
games:x:35:
shadow:x:42:
www-data:x:82:
users:x:100:games
ntp:x:123:
abuild:x:300:
utmp:x:406:
ping:x:999:
nogroup:x:65533:
nobody:x:65534:
"""

ALPINE_KNOWN = [
    ("root", User(0, 0, (0, 1, 2, 3, 4, 6, 10, 11, 20, 26, 27), b"/root", b"root")),
    ("0", User(0, 0, (0, 1, 2, 3, 4, 6, 10, 11, 20, 26, 27), b"/root", b"root")),
    ("0:0", User(0, 0, (0,), b"/root", b"root")),
    ("root:root", User(0, 0, (0,), b"/root", b"root")),
    ("bin", User(1, 1, (1, 2, 3), b"/bin", b"bin")),
    ("daemon", User(2, 2, (2, 1, 4), b"/sbin", b"daemon")),
    ("lp", User(4, 7, (7,), b"/var/spool/lpd", b"lp")),
    ("sync", User(5, 0, (0,), b"/sbin", b"sync")),
    ("mail", User(8, 12, (12,), b"/var/mail", b"mail")),
    ("ftp", User(21, 21, (21,), b"/var/lib/ftp", b"ftp")),
    ("games", User(35, 35, (35, 100), b"/usr/games", b"games")),
    ("games:daemon", User(35, 2, (2,), b"/usr/games", b"games")),
    ("guest", User(405, 100, (100,), b"/dev/null", b"guest")),
    ("405", User(405, 100, (100,), b"/dev/null", b"guest")),
    ("nobody", User(65534, 65534, (65534,), b"/", b"nobody")),
    ("nobody:nogroup", User(65534, 65533, (65533,), b"/", b"nobody")),
    ("1000", User(1000, 0, (0,), b"/", b"1000")),
    ("1000:users", User(1000, 100, (100,), b"/", b"1000")),
    ("root:1000", User(0, 1000, (1000,), b"/root", b"root")),
]

ALONE = [
    ("0:0", User(0, 0, (0,), b"/", b"0")),
    ("0", User(0, 0, (0,), b"/", b"0")),
    ("1000", User(1000, 0, (0,), b"/", b"1000")),
    ("1000:1001", User(1000, 1001, (1001,), b"/", b"1000")),
    (f"{MOST}:{MOST}", User(MOST, MOST, (MOST,), b"/", b"2147483647")),
]
"""Who there is where both files are missing."""
