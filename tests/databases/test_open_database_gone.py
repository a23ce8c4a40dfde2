"""A file that goes away under an open database, and comes back."""

import pytest

from groundql.answer import OpenDatabase
from groundql.errors import DatabaseMissing
from tests.serving.served import make_databases


def test_a_deleted_file_is_missing_each_time_it_is_asked_and_there_again_when_it_is_back(tmp_path):
    path = make_databases(tmp_path)["shop"]
    kept = path.read_bytes()
    with OpenDatabase(path) as database:
        path.unlink()
        for _ in range(2):
            with pytest.raises(DatabaseMissing):
                _ = database.schema
        path.write_bytes(kept)
        assert [table.name for table in database.schema.tables] == ["product", "sale"]
        assert database.run("SELECT COUNT(*) FROM product").rows == ((3,),)
