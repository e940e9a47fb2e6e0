"""Tables of any shop."""

import gzip
import shlex

import pandas as pd
import pytest
from PIL import Image

from recbole_perpeft.commands.prepare import main
from recbole_perpeft.utils.errors import DataError, SettingError
from recbole_perpeft.utils.files import listed_files

ORDERS = """customer,sku,when,stars
007,a,2024-01-01,5
007,b,2024-01-01T00:00:01Z,2
8,a,2024-01-01 01:00:00+01:00,4
"""


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    (folder / "pics" / "deep").mkdir(parents=True)
    (folder / "orders.csv").write_text(ORDERS)
    (folder / "products.csv").write_text(
        'sku,name,pic,link\na,"Tent, ""big""\nfor two",deep/a.png,https://x/a.jpg\nb,NA,,\nz,other,z.png,https://x/z\n'
    )
    Image.new("RGB", (4, 4)).save(folder / "pics" / "deep" / "a.png")
    return folder


COLUMNS = ("--user", "customer", "--item", "sku")


def test_dates_become_seconds_and_ids_stay_as_they_are(prepare, shop):
    written = prepare("orders", "table", shop / "orders.csv", shop / "products.csv", *COLUMNS,
                      "--time", "when", "--rating", "stars", "--columns", "name")  # fmt: skip
    assert written.purchases() == [
        ("007", "a", 1704067200, 5.0), ("007", "b", 1704067201, 2.0), ("8", "a", 1704067200, 4.0),
    ]  # fmt: skip
    assert written.texts("name") == {"a": ('Tent, "big" for two',), "b": ("NA",)}
    assert written.settings == {
        "dataset": "orders", "data_path": str(prepare.out), "text_fields": ["name"], "modalities": ["text"],
    }  # fmt: skip


def test_the_same_from_tsv_gzip_and_parquet(prepare, shop):
    table = pd.read_csv(shop / "orders.csv", dtype={"customer": str})
    table["when"] = pd.to_datetime(table["when"], utc=True, format="mixed")
    table.to_parquet(shop / "orders.parquet")
    table.to_csv(shop / "orders.tsv", sep="\t", index=False)
    (shop / "orders.csv.gz").write_bytes(gzip.compress(ORDERS.encode()))
    found = [
        prepare(kind, "table", shop / f"orders.{kind}", *COLUMNS, "--time", "when", "--name", kind).purchases()
        for kind in ("csv", "parquet", "tsv", "csv.gz")
    ]
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][2] == ("8", "a", 1704067200)


def test_whole_numbers_of_a_parquet_file_have_no_point(prepare, shop):
    pd.DataFrame({"u": [1.0, 2.0, None], "i": [10, 10, 11], "t": [1.5, 2.5, 3.5]}).to_parquet(shop / "o.parquet")
    written = prepare("o", "table", shop / "o.parquet", "--user", "u", "--item", "i", "--time", "t")
    assert written.purchases() == [("1", "10", 1.5), ("2", "10", 2.5)]  # who has no id is named in the log
    assert "1 user ids of" in prepare.log()
    assert written.settings["model"] == "SASRec"  # there is nothing to see


def test_pictures_by_path_by_id_and_by_address(prepare, shop):
    products, known = shop / "products.csv", ("--image_dir", shop / "pics")
    written = prepare("orders", "table", shop / "orders.csv", products, *COLUMNS, "--time", "when", *known,
                      "--image_paths", "pic", "--image_urls", "link", "--columns", "name")  # fmt: skip
    assert written.texts("image") == {"a": ("images/deep/a.png",), "b": ("",)}
    assert (written.folder / "images" / "deep" / "a.png").is_file()
    assert written.settings["image_field"] == "image"
    assert written.settings["missing_content"] == "neutral"
    assert (written.folder / "orders.urls.tsv").read_text() == "a\thttps://x/a.jpg\n"
    by_id = prepare("ids", "table", shop / "orders.csv", *COLUMNS, *known, "--name", "ids")
    assert by_id.settings["image_dir"] == "images"
    assert by_id.settings["modalities"] == ["image"]
    assert by_id.settings["eval_args"] == {"order": "RO"}  # there are no times


def test_a_path_outside_of_the_pictures_is_refused(prepare, shop):
    (shop / "products.csv").write_text("sku,pic\na,../../secret.png\nb,\n")
    with pytest.raises(DataError, match=r"'\.\./\.\./secret\.png' lies outside of --image_dir"):
        prepare("orders", "table", shop / "orders.csv", shop / "products.csv", *COLUMNS,
                "--image_dir", shop / "pics", "--image_paths", "pic")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--user", "custommer", "--item", "sku"], "no column 'custommer'. Did you mean 'customer'?"),
        ([*COLUMNS, "--time", "sku"], r"row 1 below the header: --time is to be a number or a date, sku is 'a'"),
        ([*COLUMNS, "--rating", "when"], r"row 1 below the header: --rating is to be a number, when is '2024-01-01'"),
    ],
)
def test_a_column_that_is_not_there_or_of_another_kind_is_named(prepare, shop, words, message):
    with pytest.raises(DataError, match=message):
        prepare("orders", "table", shop / "orders.csv", *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--columns", "name"], "--columns names a column of ITEMS"),
        (["--min_rating", "3"], "tell with --rating"),
        (["--image_urls", "link"], "--image_urls names a column of ITEMS"),
        (["--pictures"], "tell with --image_urls"),
    ],
)
def test_options_that_do_not_go_together_are_refused(prepare, shop, words, message):
    with pytest.raises(SettingError, match=message):
        prepare("orders", "table", shop / "orders.csv", *COLUMNS, *words)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("o.xlsx", b"", "its name has to tell what it is"),
        ("o.csv", b"", "cannot be read"),
        ("o.csv", b'customer,sku\n"a\nx",b\n\nc,"d\nf,g\n', "o.csv, line 5: a quotation mark opens a text that has no"),
        (
            "o.csv.gz",
            gzip.compress(b'customer,sku\na,b\nc,"d\n', mtime=0),
            "o.csv.gz, line 3: a quotation mark opens a text",
        ),
        ("o.csv", b"customer,sku\na,b,c,d\na,b\n1,2,3,4,5\n", "cannot be read: "),
        ("o.csv", b"customer,sku\n\xff\xfe,b\n", "cannot be read: .*utf-8"),
        ("o.csv.gz", b"customer,sku\na,b\n", "cannot be read: Not a gzipped file"),
        ("o.csv.gz", gzip.compress(b"customer,sku\na,b\n" * 1000, mtime=0)[:-20], "cannot be read: .*end"),
        ("o.csv.gz", gzip.compress(b"customer,sku\na,b\n", mtime=0)[:10] + b"\xff" * 40, "cannot be read: .*invalid"),
        ("o.parquet", b"PAR1 no", "cannot be read"),
        ("o.csv", b"customer,sku\na,b\nx\0y,b\n", "o.csv, line 3: there is a NUL"),
        ("o.tsv", "customer\tsku\na\tb\n".encode("utf-16"), "o.tsv, line 1: there is a NUL, .*UTF-8"),
        ("o.csv", b"customer;sku\na;b\n", "Its header is 'customer;sku', in which ';' seems to separate"),
        ("o.csv", b"customer,sku,sku\na,b,c\n", "o.csv has 2 columns 'sku': rename"),
        ("o.tsv", b'customer\tsku\t"sku"\na\tb\t"c"\n', "o.tsv has 2 columns 'sku': rename"),
    ],
)
def test_files_of_the_wrong_kind_are_named(prepare, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        prepare("o", "table", tmp_path / name, *COLUMNS)
    assert name in str(error.value)


def test_columns_that_nobody_asks_for_may_come_twice(prepare, shop):
    (shop / "o.tsv").write_text('customer\tsku\tnote\t"note"\na\tb\tc\t"d"\n')
    (shop / "o.csv").write_text("customer,sku,note,note,\na,b,c,d,\n")
    for kind in ("tsv", "csv"):
        assert prepare("o", "table", shop / f"o.{kind}", *COLUMNS).purchases() == [("a", "b")]


def test_a_column_of_a_parquet_file_that_comes_twice_is_refused(prepare, shop):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table([["a"], ["b"], ["c"]], names=["customer", "sku", "sku"]), shop / "o.parquet")
    with pytest.raises(DataError, match="has 2 columns 'sku': rename"):
        prepare("o", "table", shop / "o.parquet", *COLUMNS)


DAYS = {"2023-01-13": 1673568000, "2023-01-02": 1672617600}


@pytest.mark.parametrize("dates", ["13/01/2023,02/01/2023", "01/13/2023,01/02/2023", "13.01.2023,2.1.2023 00:00"])
def test_a_day_above_12_tells_where_the_days_of_all_dates_stand(prepare, shop, dates):
    first, second = dates.split(",")
    (shop / "d.csv").write_text(f"u,i,t\na,x,{second}\na,y,{first}\n")
    written = prepare("d", "table", shop / "d.csv", "--user", "u", "--item", "i", "--time", "t")
    assert [time for *_, time in written.purchases()] == [DAYS["2023-01-02"], DAYS["2023-01-13"]]


@pytest.mark.parametrize(
    ("dates", "why"),
    [("01/01/2023,03/01/2023", "no other date tells"), ("01/13/2023,13/01/2023", "and others the month")],
)
def test_dates_that_could_be_of_two_days_are_refused(prepare, shop, dates, why):
    (shop / "d.csv").write_text("u,i,t\n" + "".join(f"a,x,{date}\n" for date in dates.split(",")))
    with pytest.raises(DataError, match=rf"below the header: --time: t is .* two days, .*{why}"):
        prepare("d", "table", shop / "d.csv", "--user", "u", "--item", "i", "--time", "t")


def test_ids_of_a_parquet_file_come_back_to_their_last_digit(prepare, shop):
    long = [12345678901234567, 12345678901234568, None]
    table = {"u": pd.array(long, dtype="Int64"), "i": [b"x", b"y", b"z"], "t": [1, 2, 3], "f": [1e18, 2.0**64, 1.0]}
    pd.DataFrame(table).to_parquet(shop / "l.parquet")
    written = prepare("l", "table", shop / "l.parquet", "--user", "u", "--item", "i", "--time", "t")
    assert written.purchases() == [("12345678901234567", "x", 1.0), ("12345678901234568", "y", 2.0)]
    written = prepare("l", "table", shop / "l.parquet", "--user", "f", "--item", "i")  # too large for whole numbers
    assert len(written.purchases()) == 3


def test_pictures_that_are_no_files_are_counted(prepare, shop):
    (shop / "products.csv").write_text("sku,pic\na,deep/a.png\nb,gone.png\n")
    written = prepare("orders", "table", shop / "orders.csv", shop / "products.csv", *COLUMNS,
                      "--image_dir", shop / "pics", "--image_paths", "pic")  # fmt: skip
    assert written.settings["missing_content"] == "neutral"
    assert "1 texts or pictures of 2 items" in prepare.log()


def test_pictures_that_lie_in_the_data_set_stay_there(prepare, shop):
    images = prepare.out / "orders" / "images"
    images.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(images / "a.png")
    written = prepare("orders", "table", shop / "orders.csv", *COLUMNS, "--image_dir", images)
    assert written.settings["image_dir"] == "images"
    assert (images / "a.png").is_file()


def test_the_command_that_is_printed_runs_where_a_folder_has_blanks(prepare, shop, tmp_path):
    assert main(["table", str(shop / "orders.csv"), *COLUMNS, "--out", str(tmp_path / "my shop")]) == 0
    command = shlex.split(prepare.printed().partition("Next: ")[2])
    [word] = [word for word in command if word.startswith("--config_files=")]
    assert listed_files(word.partition("=")[2]) == [str(tmp_path / "my shop" / "orders" / "orders.yaml")]
    assert listed_files("a.yaml b.yaml") == ["a.yaml", "b.yaml"]
    assert listed_files(None) == []


def test_a_quotation_mark_of_a_tsv_file_is_one_of_its_text(prepare, shop):
    (shop / "orders.tsv").write_text("u\ti\n1\ta\n1\tb\n1\tc\n1\td\n1\te\n")
    rows = ['"Golf" bag', '"12 inch disc', 'a 12" disc', '"quoted ""by"" pandas"', '"']
    lines = "".join(f"{item}\t{title}\n" for item, title in zip("abcde", rows, strict=True))
    (shop / "items.tsv").write_text(f'i\t"name"\n{lines}')
    written = prepare("orders", "table", shop / "orders.tsv", shop / "items.tsv", "--user", "u", "--item", "i",
                      "--columns", "name")  # fmt: skip
    texts = ['"Golf" bag', '"12 inch disc', 'a 12" disc', 'quoted "by" pandas', '"']
    assert written.texts("name") == {item: (text,) for item, text in zip("abcde", texts, strict=True)}


def test_tables_that_pandas_writes_with_quotation_marks_are_the_same_as_csv_and_tsv(prepare, shop):
    items = pd.DataFrame({"sku": ["a", "b"], "name": ['Tent, "big"', '"'], "empty": ["", '""']})
    items.to_csv(shop / "i.csv", index=False)
    items.to_csv(shop / "i.tsv", sep="\t", index=False)
    found = [
        prepare(kind, "table", shop / "orders.csv", shop / f"i.{kind}", *COLUMNS, "--name", kind,
                "--columns", "name", "empty").texts("name", "empty")
        for kind in ("csv", "tsv")
    ]  # fmt: skip
    assert found[0] == found[1] == {"a": ('Tent, "big"', ""), "b": ('"', '""')}


@pytest.mark.parametrize("line", ['b\t"Tent\nfor two"\n', 'b\t"Tent\nfor\ttwo"\tx\n'])
def test_a_text_of_a_tsv_file_that_goes_on_in_the_next_line_is_named(prepare, shop, line):
    header = "sku\tname\n" if line.count("\t") == 1 else "sku\tname\tcolour\n"
    (shop / "i.tsv").write_text(header + "a\tx" + "\ty" * (line.count("\t") > 1) + "\n" + line)
    with pytest.raises(DataError, match=r"i\.tsv, line 3: a text begins with a quotation mark and seems to go on"):
        prepare("o", "table", shop / "orders.csv", shop / "i.tsv", *COLUMNS, "--columns", "name")


@pytest.mark.parametrize(
    "times", ["1700000000,2023-01-02", "2023-01-02,1700000000,1700000001", "2023-01-02,13.02.2023,5"]
)
def test_numbers_among_dates_are_refused_with_a_row_of_each(prepare, shop, times):
    rows = times.split(",")
    (shop / "d.csv").write_text("u,i,t\n" + "".join(f"a,x{n},{time}\n" for n, time in enumerate(rows)))
    number = next(n for n, time in enumerate(rows, 1) if time.isdigit())
    date = next(n for n, time in enumerate(rows, 1) if not time.isdigit())
    with pytest.raises(DataError, match=f"rows {number} and {date} below the header: .* a number, and .* a date"):
        prepare("d", "table", shop / "d.csv", "--user", "u", "--item", "i", "--time", "t")


def test_years_and_days_without_dashes_are_dates_among_dates(prepare, shop):
    (shop / "d.csv").write_text("u,i,t\na,x,2023\na,y,2023-01-02\na,z,20230113\na,w,2023-01-13\n")
    written = prepare("d", "table", shop / "d.csv", "--user", "u", "--item", "i", "--time", "t")
    new_year = 1672531200
    days = [DAYS["2023-01-02"], DAYS["2023-01-13"], DAYS["2023-01-13"]]
    assert [time for *_, time in written.purchases()] == [new_year, *days]


@pytest.mark.parametrize("number", ["-3", "2.5", "five", ""])
def test_a_core_of_no_whole_number_from_0_up_is_refused(prepare, shop, capsys, number):
    with pytest.raises(SystemExit) as ended:
        prepare("d", "table", shop / "orders.csv", *COLUMNS, f"--k_core={number}")
    assert ended.value.code == 2
    assert f"--k_core: {number!r} is not possible: it must be a whole number from 0 up" in capsys.readouterr().err
